"""What every family speaks: data and their fields, random numbers, units, distributions, sums over processes."""
