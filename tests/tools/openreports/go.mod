// The definitions of OpenReports, as stories install them: files of this module, of which nothing is
// built or linked.
// To move to another release: `go get github.com/openreports/reports-api@VERSION`.
module tools.test/openreports

go 1.26.0

require github.com/openreports/reports-api v0.2.1
