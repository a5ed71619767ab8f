"""What a model sees: encode and decode as inverse pairs."""
