"""One exception per failure that a caller can act on. Each carries its values in its message."""


class MatgenError(Exception):
    """Any failure of the input or the environment, not a bug of ours. The command line prints it as one line."""


class StructureError(MatgenError):
    """A structure cannot be used. `status` is the short word that goes into a table; the message is the reason."""

    status = "invalid_structure"

    def __init__(self, reason: str, status: str | None = None) -> None:
        super().__init__(reason)
        if status is not None:
            self.status = status


class UnreadableStructureError(StructureError):
    """The text or file is not a structure that we can parse."""

    status = "unreadable"


class DisorderedStructureError(StructureError):
    """A site is partially occupied or shared by several species."""

    status = "disordered"


class ClashError(StructureError):
    """Two atoms are closer than the stated distance."""

    status = "clash"


class NonFiniteStructureError(StructureError):
    """A coordinate or a lattice entry is NaN or infinite, or the cell has no volume."""

    status = "non_finite"


class TooManyAtomsError(StructureError):
    """More atoms or orbits than the stated limit."""

    status = "too_large"


class UnsupportedElementError(StructureError):
    """An element outside the range that the models know."""

    status = "unsupported_element"


class SymmetryError(StructureError):
    """The space group could not be determined, or a code fits no Wyckoff position."""

    status = "symmetry_failed"


class DecompositionError(StructureError):
    """A structure is no framework of metal nodes and linkers, or not one within the stated limits."""

    status = "not_decomposed"


class SourceError(MatgenError):
    """A path or named data set cannot be read as a whole: missing, corrupt, of unknown format."""


class ExportError(MatgenError):
    """Structures cannot be written: unknown format, a folder in use, no permission, a full disk."""


class ConfigError(MatgenError):
    """An unknown key, a wrong type or a value out of range; the message lists what is valid."""


class CheckpointError(MatgenError):
    """A checkpoint is missing, incomplete or corrupt, or belongs to another model."""


class DownloadError(MatgenError):
    """A named data set could not be downloaded, or its checksum does not match."""


class StageError(MatgenError):
    """A stage cannot start: its input directory is missing or incomplete, or its output holds another run."""


class MissingDependencyError(MatgenError):
    """An optional package is not installed; the message says which extra installs it."""
