"""matgen: generative models of crystalline matter, from structure files to evaluated candidates."""

__version__ = "0.1.0"
