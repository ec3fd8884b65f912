return T(1)
