return live[b][i]
