"""Networks. They know no noise process."""
