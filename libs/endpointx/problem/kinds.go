package problem

import (
	"net/http"
	"time"
)

// Malformed is a 400: the request is not what its content type promises.
func Malformed(detail string) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: "malformed", Title: "The request can't be read", Detail: detail}
}

// Invalid is a 422 that names the fields at fault ("text": "is required").
func Invalid(fields map[string]string) *Problem {
	return &Problem{Status: http.StatusUnprocessableEntity, Code: "invalid", Title: "Some fields are not valid", Fields: fields}
}

// Unauthorised is a 401.
func Unauthorised(detail string) *Problem {
	return &Problem{
		Status: http.StatusUnauthorized, Code: "unauthorised", Title: "No valid API key", Detail: detail,
		Authenticate: `Bearer realm="tributary"`,
	}
}

// Forbidden is a 403 that names the scope the caller's key lacks.
func Forbidden(scope string) *Problem {
	return &Problem{
		Status: http.StatusForbidden, Code: "missing_scope", Title: "The API key may not do this",
		Detail:       "this needs the scope " + scope,
		Authenticate: `Bearer realm="tributary", error="insufficient_scope", scope="` + scope + `"`,
	}
}

// NotFound is a 404, also for what belongs to another workspace.
func NotFound(what string) *Problem {
	return &Problem{Status: http.StatusNotFound, Code: "not_found", Title: "Not found", Detail: "there is no such " + what}
}

// Conflict is a 409.
func Conflict(detail string) *Problem {
	return &Problem{Status: http.StatusConflict, Code: "conflict", Title: "This conflicts with what is there", Detail: detail}
}

// Gone is a 410: it was there and was erased.
func Gone(what string) *Problem {
	return &Problem{Status: http.StatusGone, Code: "gone", Title: "Gone", Detail: "this " + what + " was erased"}
}

// TooLarge is a 413.
func TooLarge() *Problem {
	return &Problem{Status: http.StatusRequestEntityTooLarge, Code: "too_large", Title: "The body is too large"}
}

// Unsupported is a 415 that names the content type expected.
func Unsupported(want string) *Problem {
	return &Problem{
		Status: http.StatusUnsupportedMediaType, Code: "unsupported_type", Title: "This content type is not taken",
		Detail: "send " + want,
	}
}

// TooMany is a 429.
func TooMany(retryAfter time.Duration) *Problem {
	return &Problem{
		Status: http.StatusTooManyRequests, Code: "too_many_requests", Title: "Too many requests", RetryAfter: retryAfter,
	}
}

// Unavailable is a 503: something this needs is away for now.
func Unavailable(what string) *Problem {
	return &Problem{
		Status: http.StatusServiceUnavailable, Code: "unavailable", Title: "Not available for now",
		Detail: what + " is not available", RetryAfter: time.Second,
	}
}
