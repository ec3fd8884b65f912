return s +
