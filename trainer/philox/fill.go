package philox

// fillVector writes a multiple of four numbers and returns how many; Fill writes the rest.
func fillVector([]uint32, Key, Counter) int { return 0 }
