"""Ray and W&B: one file is one stage is one public function."""
