return slope + 1
