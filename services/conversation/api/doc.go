// Package api is the conversation service's face: contacts, conversations, messages, attachments, search
// and the live stream, over HTTP, as openapi.yaml describes them.
//
// Every answer is a function of what is stored, and what is stored is a function of the set of events: no
// answer depends on the clock or on the order of arrival. What belongs to a frozen person is 410 where it
// is asked for by id and is missing from lists, search and stream; what belongs to another workspace is
// 404. Sealed parts are opened for the answer, with one call of the key registry for a page; while the
// registry is away nothing is answered half-open (503), and a part whose key is gone says so.
package api
