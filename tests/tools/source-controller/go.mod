// The definition of GitRepository, as the story with Flux installs it: a file of this module, of
// which nothing is built or linked.
// To move to another release: `go get github.com/fluxcd/source-controller@VERSION`.
module tools.test/source-controller

go 1.26.0

require github.com/fluxcd/source-controller v1.9.0
