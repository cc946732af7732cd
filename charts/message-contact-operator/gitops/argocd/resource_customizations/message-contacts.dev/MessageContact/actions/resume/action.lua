-- Absent means that it is not suspended: so nothing is left that differs from git.
obj.spec.suspend = nil
return obj
