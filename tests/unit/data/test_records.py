import numpy as np
import pytest

from matgen.data.records import Records, RecordsError, fields


def assert_same(first: Records, second: Records) -> None:
    for name in fields():
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


def test_save_and_load_are_inverse_and_loading_maps_the_file(fake_records, tmp_path):
    path = tmp_path / "train.safetensors"
    fake_records.save(path)
    loaded = Records.load(path)
    assert_same(fake_records, loaded)
    assert not loaded.frac_coords.flags.writeable and not loaded.frac_coords.flags.owndata
    assert [file.name for file in tmp_path.iterdir()] == ["train.safetensors"]


def test_empty_records_survive_the_file(tmp_path):
    Records.empty().save(tmp_path / "empty")
    assert len(Records.load(tmp_path / "empty")) == 0


def test_select_takes_indices_and_masks(fake_records):
    chosen = fake_records.select([5, 0, 5])
    assert chosen.ids == ("fake-5", "fake-0", "fake-5")
    for row, index in enumerate([5, 0, 5]):
        own = slice(*chosen.offsets[row : row + 2])
        there = slice(*fake_records.offsets[index : index + 2])
        assert np.array_equal(chosen.frac_coords[own], fake_records.frac_coords[there])
        assert np.array_equal(chosen.site_symmetry[own], fake_records.site_symmetry[there])
    mask = np.arange(len(fake_records)) % 3 == 0
    assert_same(fake_records.select(mask), fake_records.select(np.flatnonzero(mask)))


def test_concat_undoes_select(fake_records):
    parts = [fake_records.select(range(start, min(start + 7, 60))) for start in range(0, 60, 7)]
    assert_same(Records.concat(parts), fake_records)
    assert len(Records.concat([])) == 0


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_truncated_file_is_one_clear_error_with_the_path(fake_records, tmp_path, keep):
    path = tmp_path / "train.safetensors"
    fake_records.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(RecordsError, match=r"^[^\n]*train\.safetensors[^\n]*$"):
        Records.load(path)


def test_garbage_and_absence_are_clear_errors(tmp_path):
    path = tmp_path / "train.safetensors"
    with pytest.raises(RecordsError, match="No such file"):
        Records.load(path)
    path.write_bytes(b"\xff" * 5000)
    with pytest.raises(RecordsError, match="not a readable records file"):
        Records.load(path)


def test_inconsistent_arrays_are_refused(fake_records):
    values = {name: getattr(fake_records, name) for name in fields()}
    with pytest.raises(RecordsError, match="multiplicity has shape"):
        Records(**{**values, "multiplicity": values["multiplicity"][:-1]})
    with pytest.raises(RecordsError, match="offsets"):
        Records(**{**values, "offsets": values["offsets"][:-1]})
    broken = values["frac_coords"].copy()
    broken[3, 1] = 1.0
    with pytest.raises(RecordsError, match="frac_coords"):
        Records(**{**values, "frac_coords": broken}).check()
    fake_records.check()
