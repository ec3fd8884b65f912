for k in pairs(T) do end
