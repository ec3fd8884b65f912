return s + bias[b][i][live[b][j]]
