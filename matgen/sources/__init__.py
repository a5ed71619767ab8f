"""Reading what users have, and writing what they want: files, folders, archives, tables and named data sets."""
