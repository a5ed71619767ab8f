"""Reading what users have: CIF folders, tables, archives, named data sets."""
