return s + bias[b][i][j]
