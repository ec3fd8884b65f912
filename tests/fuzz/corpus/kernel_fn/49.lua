if j > i then return s end
