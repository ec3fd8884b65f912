return live[b][j] and s or 0
