package spool

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"time"
)

// A frame is magic, length of the data, CRC-32C of time and data, time in microseconds, data.
const (
	magic      = "TRSP"
	headerSize = len(magic) + 4 + 4 + 8
	timeAt     = headerSize - 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendFrame(b []byte, at time.Time, data []byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	sumAt := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(at.UnixMicro()))
	b = append(b, data...)
	binary.BigEndian.PutUint32(b[sumAt:], crc32.Checksum(b[sumAt+4:], castagnoli))
	return b
}

// readFrame reads the frame that begins at offset and ends at limit at the latest. ok is false where none
// does; an error is the disk's.
func readFrame(r io.ReaderAt, offset, limit int64) (rec Record, end int64, ok bool, err error) {
	if limit-offset < int64(headerSize) {
		return rec, 0, false, nil
	}
	header := make([]byte, headerSize)
	if _, err := r.ReadAt(header, offset); err != nil {
		return rec, 0, false, err
	}
	size := int64(binary.BigEndian.Uint32(header[len(magic):]))
	end = offset + int64(headerSize) + size
	if string(header[:len(magic)]) != magic || size > MaxRecordBytes || end > limit {
		return rec, 0, false, nil
	}
	data := make([]byte, size)
	if _, err := r.ReadAt(data, offset+int64(headerSize)); err != nil {
		return rec, 0, false, err
	}
	sum := crc32.Update(crc32.Checksum(header[timeAt:], castagnoli), castagnoli, data)
	if sum != binary.BigEndian.Uint32(header[len(magic)+4:]) {
		return rec, 0, false, nil
	}
	at := time.UnixMicro(int64(binary.BigEndian.Uint64(header[timeAt:]))).UTC()
	return Record{At: at, Data: data}, end, true, nil
}

// resync finds the next whole frame behind a damaged one: its offset, or limit where there is none.
func resync(r io.ReaderAt, offset, limit int64) (int64, error) {
	const window = 1 << 20
	buf := make([]byte, window)
	for from := offset + 1; from < limit; {
		n := min(window, limit-from)
		if _, err := r.ReadAt(buf[:n], from); err != nil {
			return 0, err
		}
		found := bytes.Index(buf[:n], []byte(magic))
		if found < 0 {
			if from+n >= limit {
				return limit, nil
			}
			from += n - int64(len(magic)) + 1 // a magic may lie across windows
			continue
		}
		from += int64(found)
		_, _, ok, err := readFrame(r, from, limit)
		if err != nil {
			return 0, err
		}
		if ok {
			return from, nil
		}
		from++
	}
	return limit, nil
}
