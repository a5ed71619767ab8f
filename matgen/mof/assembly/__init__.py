"""The steps of self-assembly; `matgen.mof.assemble` is the way in."""
