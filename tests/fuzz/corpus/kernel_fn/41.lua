return s + true
