return qq + 1
