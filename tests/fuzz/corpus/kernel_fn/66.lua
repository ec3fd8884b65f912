return slope[0.5]
