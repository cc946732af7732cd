// What holds the namespaces of a pod, and of the node itself: built by `tests/cluster`.
module tools.test/pause

go 1.26.0
