"""Experiment: the frozen composition of the pieces' configs. JSON in and out; strict `set("train.max_steps=2000")`."""

from matgen.settings import from_dict, set_value, to_dict

__all__ = ["from_dict", "set_value", "to_dict"]
