package api

import (
	"context"
	"errors"

	"tributary.dev/libs/endpointx/problem"
	"tributary.dev/libs/seal"
	"tributary.dev/libs/telemetry"
	pb "tributary.dev/proto/gen/tributary/v1"
)

// opening gathers the sealed parts of a whole page, so that one call of the registry opens them all.
//
//bound:exempt what one answer shows
type opening struct {
	workspace string
	parts     []seal.Sealed
	uses      []func(plain []byte, err error)
}

// sealedColumns are a part as tables keep it.
type sealedColumns struct {
	subject, key string
	ciphertext   []byte
}

func (c sealedColumns) part(category pb.Category) *pb.SealedPart {
	return &pb.SealedPart{SubjectId: c.subject, KeyId: c.key, Category: category, Ciphertext: c.ciphertext}
}

// add asks for a part; use is called by open with its plaintext, or with why there is none. A part that
// was never there is not asked for.
func (o *opening) add(c sealedColumns, category pb.Category, origin seal.Origin, use func(plain []byte, err error)) {
	if len(c.ciphertext) == 0 {
		return
	}
	o.parts = append(o.parts, seal.Sealed{Workspace: o.workspace, Part: c.part(category), Origin: origin})
	o.uses = append(o.uses, use)
}

// open opens everything, or nothing: the error is a Problem (503) while the registry is away.
func (o *opening) open(ctx context.Context, client *seal.Client, purpose pb.Purpose) error {
	if len(o.parts) == 0 {
		return nil
	}
	opened, err := client.Open(ctx, purpose, o.parts)
	if err != nil {
		return registryError(ctx, err)
	}
	forged := 0
	for i, part := range opened {
		if errors.Is(part.Err, seal.ErrForged) {
			forged++
		}
		o.uses[i](part.Plain, part.Err)
	}
	if forged > 0 {
		telemetry.From(ctx).Log.ErrorContext(ctx, "stored parts do not open where they lie", "workspace_id", o.workspace, "parts", forged)
	}
	o.parts, o.uses = nil, nil
	return nil
}

// registryError is the answer where the registry could not be asked.
func registryError(ctx context.Context, err error) error {
	if errors.Is(err, seal.ErrUnavailable) && ctx.Err() == nil {
		return problem.Unavailable("the key registry")
	}
	return err
}

// contentState says of a part that did not open what a reader shall know.
func contentState(err error) string {
	switch {
	case err == nil:
		return contentOpen
	case errors.Is(err, seal.ErrRestricted):
		return contentRestricted
	case errors.Is(err, seal.ErrGone):
		return contentGone
	}
	return contentUnreadable
}
