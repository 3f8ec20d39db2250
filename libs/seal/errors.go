package seal

import "errors"

// Errors of opening. They say nothing of the data.
var (
	// ErrGone: the key is frozen, destroyed, or not this workspace's. It will not come back.
	ErrGone = errors.New("seal: key is gone")
	// ErrRestricted: the key may not be used for this purpose.
	ErrRestricted = errors.New("seal: restricted")
	// ErrForged: the part does not belong to this record, or was altered.
	ErrForged = errors.New("seal: part does not open here")
	// ErrUnavailable: the registry could not be asked; nothing was opened.
	ErrUnavailable = errors.New("seal: registry unavailable")
	// ErrErased: an identity erased after it acted (Acquire with ActedAt).
	ErrErased = errors.New("seal: identity was erased")
	// ErrInvalid: an identity that no registry takes (empty, not UTF-8, or beyond the limits). Asking
	// again can't help.
	ErrInvalid = errors.New("seal: identity is not valid")
)
