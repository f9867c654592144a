"""Files and what surrounds them: the home, private files, kernel locks, threads for what blocks."""
