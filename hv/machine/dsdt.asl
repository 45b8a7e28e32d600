// SPDX-License-Identifier: Apache-2.0
// The devices of a partition: COM1, a clock, the VMBus with its MMIO windows, the generation id.
// Addresses: hv/machine/layout.h. What differs between VMs is read from struct acpi_info.
DefinitionBlock ("", "DSDT", 2, "GODWIT", "GODWITVM", 1)
{
	Name (\_S0, Package () { 0, 0, 0, 0 })
	Name (\_S5, Package () { 5, 5, 0, 0 })

	OperationRegion (INFO, SystemMemory, 0x000F0000, 0x20)
	Field (INFO, AnyAcc, NoLock, Preserve)
	{
		LBAS, 32,	// VMBus window below 4 GiB
		LLEN, 32,
		HBAS, 64,	// VMBus window above RAM
		HLEN, 64,
		GENL, 32,	// generation id: address
		GENH, 32,
	}

	Scope (\_SB)
	{
		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x03F8, 0x03F8, 1, 8)
				IRQ (Edge, ActiveHigh, Exclusive) {4}
			})
		}

		Device (RTC0)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x0070, 0x0070, 1, 2)
			})
		}

		Device (VMOD)
		{
			Name (_HID, "ACPI0004")
			Name (_UID, 0)
			Name (WIN, ResourceTemplate ()
			{
				QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
					ReadWrite, 0, 0, 0, 0, 1, , , LOWW)
				QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable,
					ReadWrite, 0, 0, 0, 0, 1, , , HIGW)
			})

			Method (_CRS, 0, Serialized)
			{
				CreateQWordField (WIN, ^LOWW._MIN, LMIN)
				CreateQWordField (WIN, ^LOWW._MAX, LMAX)
				CreateQWordField (WIN, ^LOWW._LEN, LSIZ)
				CreateQWordField (WIN, ^HIGW._MIN, HMIN)
				CreateQWordField (WIN, ^HIGW._MAX, HMAX)
				CreateQWordField (WIN, ^HIGW._LEN, HSIZ)
				LMIN = LBAS
				LSIZ = LLEN
				LMAX = LBAS + LLEN - 1
				HMIN = HBAS
				HSIZ = HLEN
				HMAX = HBAS + HLEN - 1
				Return (WIN)
			}

			Device (VMBS)
			{
				// Methods: as plain names iasl refuses strings of five characters.
				Method (_HID, 0, NotSerialized) { Return ("VMBus") }
				Method (_CID, 0, NotSerialized) { Return ("VMBUS") }
				Name (_DDN, "VMBUS")
				Name (_UID, 0)
				Name (STA, 0xF)
				Method (_STA, 0, NotSerialized) { Return (STA) }
				Method (_DIS, 0, NotSerialized) { STA &= 0xD }
				Method (_PS0, 0, NotSerialized) { STA |= 0xF }
				Method (_PS3, 0, NotSerialized) { }
				Name (_CRS, ResourceTemplate () { })
			}
		}

		Device (GENC)
		{
			Name (_HID, "GODW0001")
			Name (_CID, "VM_Gen_Counter")
			Name (_DDN, "VM_Gen_Counter")
			Method (_STA, 0, NotSerialized) { Return (0xF) }
			Method (ADDR, 0, NotSerialized)
			{
				Return (Package () { GENL, GENH })
			}
		}
	}

	Scope (\_GPE)
	{
		Method (_E00, 0, NotSerialized) { Notify (\_SB.GENC, 0x80) }
	}
}
