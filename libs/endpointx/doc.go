// Package endpointx makes typed go-kit endpoints and encodes every error one way: RFC 9457 problem+json.
//
// What a caller gets for a request that can't be taken:
//
//	400 malformed         the body is not one JSON object in UTF-8 (syntax, nothing, something after it)
//	401 unauthorised      no valid API key (libs/access)
//	403 missing_scope     the key lacks the scope named
//	409 conflict          also: an Idempotency-Key used before for something else
//	413 too_large         the body is larger than Options.MaxBody
//	415 unsupported_type  the body is not application/json
//	422 invalid           a field or a parameter is unknown, of the wrong type or not valid: each is named
//	429 too_many_requests the workspace asks too often
//	503 unavailable       the store, or something else that this needs, is away for now
//
// # Idempotency
//
// A POST that creates something honours the header Idempotency-Key: give its Options an Idempotency, and
// make the thing in the same transaction as the key is kept:
//
//	err := db.Tx(ctx, func(tx *sqldb.Tx) (err error) {
//		id, _, err = idempotency.Do(ctx, tx, func() (string, error) { return insert(ctx, tx, req) })
//		return err
//	})
//
// Afterwards the handler answers the resource id, whether it was made now or before. Without the header Do
// only calls the function.
package endpointx
