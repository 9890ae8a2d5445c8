"""AEDAT 4.0 files for tests, built of flatbuffers as the format's document says, without compression."""

import struct

import numpy as np

INFO = (
    '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
    '<node name="0" path="/mainloop/Recorder/outInfo/0/"><attr key="compression" type="string">NONE</attr>'
    '<attr key="originalModuleName" type="string">capture</attr>'
    '<attr key="originalOutputName" type="string">events</attr>'
    '<attr key="typeDescription" type="string">Array of events.</attr>'
    '<attr key="typeIdentifier" type="string">EVTS</attr>'
    '<node name="info" path="/mainloop/Recorder/outInfo/0/info/"><attr key="sizeX" type="int">{width}</attr>'
    '<attr key="sizeY" type="int">{height}</attr><attr key="source" type="string">DAVIS346</attr></node>'
    '</node></node></dv>'
)
EVENT = np.dtype([('t', '<i8'), ('x', '<i2'), ('y', '<i2'), ('on', '?'), ('pad', 'V3')])


def packet(flatbuffers, events):
    """A packet of stream 0: its number, its length, and a table whose only field is a vector of structures."""
    rows = np.zeros(len(events), EVENT)
    for name, values in zip(('t', 'x', 'y', 'on'), zip(*events)):
        rows[name] = values
    builder = flatbuffers.Builder(0)
    builder.StartVector(EVENT.itemsize, len(rows), 8)
    builder.head = builder.Head() - rows.nbytes
    builder.Bytes[builder.Head() : builder.Head() + rows.nbytes] = rows.tobytes()
    elements = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, elements, 0)
    builder.FinishSizePrefixed(builder.EndObject(), b'EVTS')
    data = bytes(builder.Output())
    return struct.pack('<ii', 0, len(data)) + data


def aedat4(flatbuffers, packets, size=(346, 260)):
    """A whole file of packets of (t, x, y, on)."""
    builder = flatbuffers.Builder(0)
    info = builder.CreateString(INFO.format(width=size[0], height=size[1]))
    builder.StartObject(3)
    builder.PrependInt64Slot(1, -1, 0)
    builder.PrependUOffsetTRelativeSlot(2, info, 0)
    builder.FinishSizePrefixed(builder.EndObject(), b'IOHE')
    return b'#!AER-DAT4.0\r\n' + bytes(builder.Output()) + b''.join(packet(flatbuffers, one) for one in packets)
