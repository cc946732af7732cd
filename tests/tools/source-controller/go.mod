// The definitions of Flux's sources, as the story with Flux installs them: files of this module, of
// which nothing is built or linked.
// To move to another release: `go mod edit -require=github.com/fluxcd/source-controller@VERSION`, then
// `go mod download github.com/fluxcd/source-controller`.
module tools.test/source-controller

go 1.26.0

require github.com/fluxcd/source-controller v1.9.0
