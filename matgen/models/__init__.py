"""One file is one paper: network, joint process and loss weights."""
