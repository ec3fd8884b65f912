return live[b][j + 1]
