// Package standalone runs every service of the mesh in one process, on an embedded broker and SQLite. It
// makes the same platform that a service's own process has, of embedded parts, and runs the same
// descriptors: the same code, topics and paths.
package standalone
