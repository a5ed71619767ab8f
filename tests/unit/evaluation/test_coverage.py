import importlib.metadata
import sys
import warnings

import numpy as np
import pytest
from evaluation_cells import moved, supercell

from matgen.errors import MissingDependencyError, SourceError
from matgen.evaluation import fingerprints as fingerprints_module
from matgen.evaluation.coverage import CoverageConfig, MagpieScaler, coverage
from matgen.evaluation.fingerprints import (
    FingerprintConfig,
    Fingerprints,
    concat_fingerprints,
    fingerprint_structures,
    load_fingerprints,
    save_fingerprints,
)
from matgen.evaluation.references import build_references, fingerprint_reference


@pytest.fixture(scope="module")
def few(structures):
    return [s for s in structures if s.num_atoms <= 4][:8]


@pytest.fixture(scope="module")
def made(few) -> Fingerprints:
    pytest.importorskip("matminer")
    return fingerprint_structures(few)


def test_fingerprints_are_matminers_own_averaged_over_all_sites(few, made):
    from matminer.featurizers.composition.composite import ElementProperty
    from matminer.featurizers.site.fingerprint import CrystalNNFingerprint

    sites, magpie = CrystalNNFingerprint.from_preset("ops"), ElementProperty.from_preset("magpie")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for row, structure in enumerate(few[:4]):
            cell = structure.to_pymatgen()
            mean = np.mean([sites.featurize(cell, i) for i in range(len(cell))], axis=0)
            np.testing.assert_allclose(made.structure[row], mean, atol=1e-6)
            np.testing.assert_allclose(made.composition[row], magpie.featurize(cell.composition))


def test_orbits_and_primitive_cells_change_nothing(few, made):
    others = fingerprint_structures([moved(supercell(s, (1, 2, 1)), i) for i, s in enumerate(few[:4])])
    np.testing.assert_allclose(others.structure, made.structure[:4], atol=1e-4)
    plain = fingerprint_structures(few[:4], FingerprintConfig(orbit_symprec=0))
    np.testing.assert_allclose(plain.structure, made.structure[:4], atol=1e-6)


def test_missing_and_failing_structures_are_rows_without_a_fingerprint(few, made, monkeypatch):
    monkeypatch.setattr(fingerprints_module, "_structure_fingerprint", _fail)
    with_gap = fingerprint_structures([None, few[0]])
    assert with_gap.usable.tolist() == [False, False]
    assert np.isfinite(with_gap.composition[1]).all() and np.isnan(with_gap.composition[0]).all()
    joined = concat_fingerprints([with_gap, made])
    assert len(joined) == 2 + len(few) and joined.usable.sum() == len(few)
    scaler = MagpieScaler.fit(made.composition)
    result = coverage(with_gap, made, scaler)
    assert result.covering_sample.tolist() == [False, False] and not result.covered_reference.any()


def _fail(*_: object) -> np.ndarray:
    raise ValueError("no neighbours")


def test_coverage_by_brute_force():
    rng = np.random.default_rng(0)
    samples = Fingerprints(rng.normal(size=(20, 61)) * 0.05, rng.normal(size=(20, 132)))
    reference = Fingerprints(rng.normal(size=(15, 61)) * 0.05, rng.normal(size=(15, 132)))
    scaler = MagpieScaler.fit(reference.composition)
    config = CoverageConfig(structure_cutoff=0.5, composition_cutoff=14.5)
    result = coverage(samples, reference, scaler, config)
    a, b = scaler.transform(samples.composition), scaler.transform(reference.composition)
    for i in range(20):
        near = min(np.linalg.norm(samples.structure[i] - r) for r in reference.structure) <= 0.5
        near &= min(np.linalg.norm(a[i] - r) for r in b) <= 14.5
        assert result.covering_sample[i] == near
    for j in range(15):
        near = min(np.linalg.norm(s - reference.structure[j]) for s in samples.structure) <= 0.5
        near &= min(np.linalg.norm(s - b[j]) for s in a) <= 14.5
        assert result.covered_reference[j] == near
    assert 0 < result.covering_sample.mean() < 1


def test_a_set_covers_itself_and_the_scaler_standardises(made):
    scaler = MagpieScaler.fit(made.composition)
    result = coverage(made, made, scaler)
    assert result.covered_reference.all() and result.covering_sample.all()
    scaled = scaler.transform(made.composition)
    varying = made.composition.std(0) > 0
    np.testing.assert_allclose(scaled[:, varying].std(0), 1.0)
    assert scaler.transform(np.full((1, 132), np.nan)).tolist() == [[0.0] * 132]


def test_reference_fingerprints_are_kept_under_their_content(few, made, tmp_path, monkeypatch):
    first = fingerprint_reference(few, cache_folder=tmp_path, shard_size=3)
    np.testing.assert_allclose(first.structure, made.structure)
    monkeypatch.setattr(fingerprints_module, "_structure_fingerprint", _fail)
    again = fingerprint_reference(few, cache_folder=tmp_path)  # from the cache: nothing is computed
    np.testing.assert_array_equal(again.structure, first.structure)
    changed = fingerprint_reference([*few[:-1], moved(few[-1], 1)], cache_folder=tmp_path)
    assert not changed.usable.any()  # other structures are another entry
    references = build_references(few, few, train_name="a", test_name="b", cache_folder=tmp_path)
    assert references.train_composition is not None and references.test_fingerprints is not None
    assert len(references.train["status"]) == len(few)


def test_fingerprints_that_broke_off_go_on_where_they_were(few, made, tmp_path, monkeypatch):
    done = []

    def breaking(function, pieces):
        for piece in pieces:
            if len(done) == 2:
                raise KeyboardInterrupt
            done.append(len(piece))
            yield function(piece)

    with pytest.raises(KeyboardInterrupt):
        fingerprint_reference(few, cache_folder=tmp_path, mapper=breaking, shard_size=2)
    calls = []
    real = fingerprints_module._structure_fingerprint
    monkeypatch.setattr(fingerprints_module, "_structure_fingerprint", lambda *a: calls.append(1) or real(*a))
    whole = fingerprint_reference(few, cache_folder=tmp_path, shard_size=2)
    np.testing.assert_allclose(whole.structure, made.structure)
    assert len(calls) == len(few) - sum(done)
    assert len(list(tmp_path.iterdir())) == 1  # the pieces are gone


def test_a_corrupt_cache_file_is_named(tmp_path):
    save_fingerprints(Fingerprints(np.zeros((1, 61)), np.zeros((1, 132))), tmp_path / "f.npz")
    assert load_fingerprints(tmp_path / "f.npz").structure.shape == (1, 61)
    (tmp_path / "f.npz").write_bytes(b"nonsense")
    with pytest.raises(SourceError, match=r"f\.npz"):
        load_fingerprints(tmp_path / "f.npz")


@pytest.fixture
def without_matminer(monkeypatch):
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "matminer":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(fingerprints_module, "version", version)
    for module in [name for name in sys.modules if name.split(".")[0] == "matminer"]:
        monkeypatch.setitem(sys.modules, module, None)
    fingerprints_module._featurizers.cache_clear()
    yield
    fingerprints_module._featurizers.cache_clear()


def test_without_matminer_the_error_says_what_to_install(few, tmp_path, without_matminer):
    for call in (
        lambda: fingerprint_structures(few),
        lambda: fingerprint_reference(few, cache_folder=tmp_path),
        lambda: build_references(few, few, train_name="a", test_name="b"),
    ):
        with pytest.raises(MissingDependencyError, match=r"matgen\[fingerprints\]"):
            call()
    assert build_references(few, few, train_name="a", test_name="b", with_coverage=False).test_fingerprints is None
