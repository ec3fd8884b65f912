return s + bias[b][qn.clamp(i + 1, qn.dim('Nk') - qn.dim('Nq'), qn.dim('Nk') - 1)][j]
