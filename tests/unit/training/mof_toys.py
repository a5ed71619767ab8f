"""Small made-up building blocks and coarse frameworks, quick enough to train on in a test."""

import numpy as np

from matgen.data.mof_records import BlockRecords, CoarseRecords


def fake_blocks(num_identities: int = 12, num_sources: int = 6, seed: int = 0) -> BlockRecords:
    """Identities 0, 3, 6, ... occur in one framework only, the others in several."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int]] = []
    for identity in range(num_identities):
        sources = [identity % num_sources] if identity % 3 == 0 else rng.choice(num_sources, 3, replace=False)
        rows += [(identity, int(source)) for source in sources for _ in range(1 + identity % 2)]
    identity, source = np.array(rows).T
    atoms = 2 + identity % 5
    ends = 2 + identity % 3
    chains = [np.stack([np.arange(n - 1), np.arange(1, n)], axis=1) for n in atoms]
    return BlockRecords(
        atom_offsets=np.concatenate([[0], np.cumsum(atoms)]),
        bond_offsets=np.concatenate([[0], np.cumsum(atoms - 1)]),
        connection_offsets=np.concatenate([[0], np.cumsum(ends)]),
        conformer_offsets=np.concatenate([[0], np.cumsum(np.bincount(identity))]),
        cart_coords=rng.normal(0, 1.5, (atoms.sum(), 3)).astype(np.float32),
        connection_points=rng.normal(0, 3, (ends.sum(), 3)).astype(np.float32),
        source_index=source.astype(np.int32),
        bonds=np.concatenate(chains).astype(np.uint16),
        connection_atoms=np.concatenate([np.arange(c) % n for n, c in zip(atoms, ends)]).astype(np.uint16),
        atomic_numbers=np.concatenate([np.full(n, 6 + i % 4) for n, i in zip(atoms, identity)]).astype(np.uint8),
        role=(identity % 2).astype(np.uint8),
        identity_names=np.arange(num_identities * 16, dtype=np.uint8).reshape(-1, 16),
        ecfp4=rng.integers(0, 256, (num_identities, 512), dtype=np.uint8),
        sources=tuple(f"mof-{i}" for i in range(num_sources)),
        embedding=rng.normal(size=(len(rows), 32)).astype(np.float32),
    )


def fake_frameworks(blocks: BlockRecords, count: int = 30, seed: int = 0) -> CoarseRecords:
    """Two to five blocks in a cell, neighbours in a ring joined across one face."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, count)
    index = rng.integers(0, len(blocks), sizes.sum())
    starts = np.cumsum(sizes) - sizes
    rings = [np.stack([np.arange(k), (np.arange(k) + 1) % k], axis=1) for k in sizes]
    images = [np.array([[1 if i + 1 == k else 0, 0, 0] for i in range(k)]) for k in sizes]
    return CoarseRecords(
        lattice=np.eye(3) * rng.uniform(8, 14, (count, 1, 1)) + rng.normal(0, 0.5, (count, 3, 3)),
        offsets=np.append(starts, sizes.sum()),
        frac_coords=rng.random((sizes.sum(), 3)).astype(np.float32),
        block_index=index.astype(np.int32),
        is_metal=blocks.is_metal[index],
        num_connections=blocks.num_connections[index].astype(np.int16),
        edge_offsets=np.append(starts, sizes.sum()),
        edge_index=np.concatenate(rings).astype(np.int16),
        edge_image=np.concatenate(images).astype(np.int8),
        edge_multiplicity=np.ones(sizes.sum(), dtype=np.int8),
        properties=np.where(rng.random((count, 2)) < 0.3, np.nan, rng.random((count, 2))).astype(np.float32),
        ids=tuple(f"mof-{i}" for i in range(count)),
        property_names=("void_fraction", "density"),
    )
