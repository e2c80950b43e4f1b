"""What a person typed, turned into what pmx runs."""
