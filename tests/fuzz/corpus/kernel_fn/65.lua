return slope[h][0]
