"""CIF texts of small cells."""

CUBE = "_cell_length_a {a}\n_cell_length_b {a}\n_cell_length_c {a}\n" + "".join(
    f"_cell_angle_{name} 90\n" for name in ("alpha", "beta", "gamma")
)
COLUMNS = (
    "loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
)


def cif(atoms: str, header: str = "", a: str = "5.64", columns: str = COLUMNS, block: str = "data_x\n") -> str:
    return block + CUBE.format(a=a) + header + columns + atoms


ROCK_SALT = "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5\n"
