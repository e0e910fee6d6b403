package badgerkv

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Badger keeps the lock of the file of a value whose header says that it is
// longer than it is; the text is that of valueLog.Read. TestDamage of package
// stream closes databases with such values, in processes of its own because
// Badger's goroutines stay.
func TestAValueThatIsTooLongJamsClose(t *testing.T) {
	l := newBadgerLog(nil)
	l.Errorf("Unable to read: Key: %v", "k")
	require.False(t, l.jammed.Load())
	l.Errorf("Invalid read: vp: %+v", struct{ Fid, Len, Offset uint32 }{1, 2, 3})
	require.True(t, l.jammed.Load())
	require.NoError(t, l.failure(), "nothing that was written is in doubt")
}
