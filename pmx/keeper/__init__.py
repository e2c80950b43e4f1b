"""The process that must not die: parent of every managed program. Standard library only, eager imports."""
