// Package store is the conversation service's schema and the rows that its other packages share. What
// stands in it is a function of the set of events: orders, not times of arrival, decide.
package store

import (
	"embed"
	"io/fs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations are goose's, oldest first.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the path is a constant of this file
	}
	return sub
}
