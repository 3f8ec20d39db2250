// Package access says who may call: API keys ("trb_<id>_<secret>"), their workspace, role and scopes, from
// a Table of the access topic. Services authenticate by themselves and ask nobody.
//
// Of a key only the SHA-256 of its secret half is kept anywhere: with 256 random bits there is nothing to
// guess, so a slow hash would only slow the callers down.
//
// A key works as soon as its record has arrived. One that is not known is refused (401) only once the
// Table was confirmed current after the request came; when that cannot be confirmed the answer is 503. A
// flood of wrong keys shares one confirmation a quarter of a second, so it cannot wear the broker down.
// While the broker is away known keys go on working, and a revocation arrives with its return.
package access
