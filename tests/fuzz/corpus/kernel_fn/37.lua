return s:exp()
