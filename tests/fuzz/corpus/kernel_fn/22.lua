return s + slope[h // (qn.dim('Hq') // Hk)]
