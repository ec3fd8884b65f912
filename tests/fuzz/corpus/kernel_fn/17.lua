if T[3] == nil and flag then return s else return 1 end
