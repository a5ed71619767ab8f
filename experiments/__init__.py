"""What we run: experiments as functions, and the matgen command."""
