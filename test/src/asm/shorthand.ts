/**
 * Instructions as people write them, with what NASM lets them leave out: sizes, operands, the exact mnemonic. Each is assembled in
 * every mode; a line that makes no sense in one is refused there by both.
 */
export const SHORTHAND: readonly string[] = `
mov [eax], al
mov [eax], 5
mov ax, [ebx]
inc dword [eax]
inc [eax]
push [eax]
pop [eax]
push dword [eax]
call [eax]
jmp [eax]
call far [eax]
jmp far [eax]
jmp dword far [eax]
jmp word far [eax]
jmp far word [eax]
call dword [eax]
call word [eax]
shl dword [eax], 1
shl eax, 1
shl eax, byte 1
shl eax, cl
shl eax, 5
sal eax, 3
rol byte [eax], cl
imul eax, 5
imul eax, 500
imul eax, ebx, 5
imul eax, ebx
imul eax, [ebx], 5
imul eax, dword [ebx], 5000
movzx eax, [ebx]
movzx eax, byte [ebx]
movzx eax, word [ebx]
movzx ax, byte [ebx]
movsx eax, bl
movsx rax, ebx
movsx rax, dword [rbx]
movsxd rax, ebx
movsx rax, bx
lea eax, [ebx+ecx*4+5]
lea ax, [ebx]
lea eax, [eax*2]
lea eax, [eax*3]
lea eax, [eax*5+1]
lea eax, [eax*9]
lea eax, [nosplit eax*2]
lea eax, [nosplit eax*1]
lea eax, [eax*1]
lea eax, [eax+eax]
lea eax, [ebx+eax]
lea eax, [eax+ebx]
lea eax, [eax*1+ebx]
lea eax, [ebx+eax*1]
lea eax, [ebp+eax]
lea eax, [eax+ebp]
lea eax, [esp+eax]
lea eax, [eax+esp]
lea eax, [eax*2+ebp]
lea eax, [ebp*2]
lea eax, [byte ebx]
lea eax, [dword ebx]
lea eax, [byte ebx+5]
lea eax, [dword ebx+5]
lea eax, [word bx+5]
lea ax, [byte bx]
lea eax, [ebp]
lea eax, [ebp+ebp]
lea eax, [ebp*4+4]
lea eax, [eax+4*ebx-4+8]
lea eax, [4*eax+4]
lea eax, [(eax+4)*2]
lea eax, [2*(eax+ebx*2)]
lea eax, [eax+eax*2]
lea eax, [eax*2+eax]
lea eax, [eax+eax*4]
lea eax, [eax*4+eax+8]
mov eax, [0x1234]
mov eax, [word 0x1234]
mov eax, [dword 0x1234]
mov [0x1234], al
mov al, [0x1234]
mov [0x1234], eax
mov ebx, [0x1234]
mov rax, [0x1234]
mov rax, [qword 0x1234]
mov [qword 0x123456789abcdef0], rax
mov al, [qword 0x1234]
mov rbx, [0xffffffff80000000]
mov eax, [fs:0]
mov rax, [gs:0x28]
mov rax, [gs:abs 0x28]
mov rax, [rel gs:0x28]
mov eax, [fs:rel 8]
fs mov eax, [0]
es lodsb
cs lodsb
rep movsb
rep movsd
repe cmpsb
repz cmpsw
repne scasb
repnz scasd
lock add [eax], ebx
lock inc dword [eax]
xacquire lock add [eax], ebx
xrelease mov [eax], ebx
rep stosq
rep ret
bnd ret
bnd jmp $+5
wait
fwait
o16 push 5
o32 push 5
o16 nop
o32 nop
o16 ret
o32 ret
o32 retf
o16 retf
o64 retf
o32 iret
o16 iret
o64 iret
iret
iretw
iretd
iretq
a16 lodsb
a32 lodsb
a32 rep movsb
a16 mov eax, [bx]
a32 mov eax, [ebx]
a32 mov eax, [0x10]
a16 mov eax, [0x10]
a32 nop
a32 loop $
a16 loop $
o32 lgdt [eax]
o16 lgdt [eax]
o32 jmp $
o16 jmp $
o32 call $
o64 push 5
o64 mov eax, ebx
pushf
pushfw
pushfd
pushfq
popf
popfw
popfd
pusha
pushaw
pushad
popa
popaw
popad
retn
ret 4
retf 8
retn 4
retw
retd
retq
retfd
retfq
loop $
loop $, cx
loop $, ecx
loop $, rcx
loope $
loopz $
loopne $
loopnz $, ecx
jcxz $
jecxz $
jrcxz $
jmp $
jmp short $
jmp near $
jmp strict near $
jmp strict short $
jmp word $
jmp dword $
jmp near dword $
call near $
jc $
jnc near $
jz $+200
je short $
jmp 0x8:0x1234
jmp dword 0x8:0x1234
jmp word 0x8:0x1234
call 0x8:0x1234
call far 0x8:0x1234
jmp far 0x8:0x10
int 0x80
int3
int1
icebp
int 3
int 1
in al, 0x60
in ax, 0x60
in eax, dx
in al, dx
out 0x60, al
out dx, al
out dx, eax
out 0x20, eax
insb
insw
insd
outsb
outsd
rep insb
xlat
xlatb
es xlatb
a16 xlatb
xchg eax, ebx
xchg ebx, eax
xchg eax, eax
xchg ax, ax
xchg ax, bx
xchg rax, rax
xchg r8, rax
xchg ebx, ecx
xchg bl, cl
xchg bl, [ecx]
xchg [ecx], bl
xchg eax, [ecx]
test eax, [ebx]
test [ebx], eax
test eax, 5
test al, 5
test ebx, 5
test byte [ebx], 5
test eax, ebx
mov ax, ds
mov eax, ds
mov rax, ds
mov ds, ax
mov ds, eax
mov ds, rax
mov [eax], ds
mov word [eax], ds
mov ds, [eax]
mov ds, word [eax]
mov dword [eax], ds
mov cr0, eax
mov eax, cr0
mov rax, cr0
mov cr8, rax
mov dr7, rax
mov dr7, eax
mov rax, 5
mov rax, -1
mov rax, 0xffffffff
mov rax, 0x80000000
mov rax, 0x100000000
mov rax, -0x80000000
mov rax, -0x80000001
mov rax, strict dword 5
mov rax, dword 5
mov rax, qword 5
mov rax, strict qword 5
mov rax, strict 5
mov eax, 5
mov eax, strict dword 5
mov ax, strict word 5
mov al, 5
mov al, -1
mov r8, 5
mov r8d, 5
mov r8b, 5
mov qword [eax], 5
mov qword [eax], -1
mov qword [eax], 0x80000000
mov qword [rax], dword 5
add eax, 5
add eax, 500
add eax, -1
add eax, 0xffffffff
add eax, 0xffffff80
add ax, 0xffff
add ax, 0xff80
add ax, 0x80
add rax, 5
add rax, 0xffffffffffffffff
add rax, -500
add rax, 0x7fffffff
add rax, 0x80000000
add al, 5
add al, -1
add al, 0xff
add bl, 5
add ebx, 5
add ebx, byte 5
add ebx, strict byte 5
add ebx, dword 5
add ebx, strict dword 5
add bx, strict word 5
add eax, byte 5
add eax, dword 5
add eax, strict dword 5
add [eax], byte 5
add dword [eax], byte 5
add dword [eax], 5
add byte [eax], 5
cmp byte [eax], 'a'
push 5
push -1
push 500
push byte 5
push word 5
push dword 5
push qword 5
push strict dword 5
push strict word 5
push strict 5
push dword 500
push word 500
push 0x80000000
push 0xffffffff
push 0xffffffff80000000
push es
push cs
push fs
pop gs
pop ds
push ax
push eax
push rax
push r8
pop eax
pop r9
enter 8, 0
enter 500, 1
leave
o16 leave
bswap eax
bswap rax
bound eax, [ebx]
arpl ax, bx
arpl [eax], bx
lar eax, bx
lar eax, ebx
lar eax, [ebx]
lsl ax, bx
lsl rax, rbx
sldt ax
sldt eax
sldt [eax]
str ax
str [eax]
smsw ax
smsw eax
smsw [eax]
lmsw ax
lmsw [eax]
verr ax
lgdt [eax]
lidt [eax]
sgdt [eax]
sidt [rax]
invlpg [eax]
lss eax, [ebx]
lss sp, [ebx]
les ax, [ebx]
lfs rax, [rbx]
cmpxchg8b [eax]
cmpxchg16b [rax]
cmpxchg [eax], ebx
xadd [eax], ebx
bt eax, 5
bt [eax], ebx
bt dword [eax], 5
bts eax, ebx
shld eax, ebx, 5
shld eax, ebx, cl
shrd [eax], bx, cl
movbe eax, [ebx]
crc32 eax, bl
crc32 eax, byte [ebx]
crc32 eax, ebx
crc32 rax, bl
popcnt eax, [ebx]
bsf eax, [ebx]
nop
nop eax
nop dword [eax]
nop word [eax+eax]
pause
hlt
cli
ud0
ud0 eax, ebx
ud1
ud1 eax, ebx
ud2
ud2a
ud2b
syscall
sysret
o64 sysret
sysexit
o64 sysexit
rdmsr
wrmsr
cpuid
rdtscp
monitor
monitor eax, ecx, edx
monitor rax, ecx, edx
mwait
mwait eax, ecx
vmcall
vmrun
vmrun rax
vmrun eax
vmload
vmsave rax
invlpga
invlpga rax, ecx
skinit
skinit eax
clzero
clzero rax
fld st0
fld st1
fld dword [eax]
fld qword [eax]
fld tword [eax]
fld [eax]
fst st1
fst dword [eax]
fstp tword [eax]
fstp st1
fild word [eax]
fild qword [eax]
fistp qword [eax]
fisttp dword [eax]
fadd
fadd st1
fadd to st1
fadd st0, st1
fadd st1, st0
fadd dword [eax]
faddp
faddp st1
faddp st1, st0
fsub
fsub st1
fsub to st1
fsubr st1, st0
fsubp
fsubp st1
fsubrp st1, st0
fmul st2
fmulp
fdiv to st3
fdivp st3
fdivr
fdivrp
fcom
fcom st1
fcom st0, st1
fcomp st1
fcompp
fucom
fucom st1
fucomp
fucompp
fcomi st1
fcomi st0, st1
fcomip
fucomi st1
fucomip st0, st3
fcmovb st1
fcmove st0, st1
fxch
fxch st1
fxch st0, st1
fxch st1, st0
ffree st1
ffree
ffreep st1
fnstsw ax
fstsw ax
fnstsw [eax]
fstsw [eax]
fstcw [eax]
fldcw [eax]
fnstcw [eax]
fldenv [eax]
fstenv [eax]
fnstenv [eax]
fsave [eax]
fnsave [eax]
frstor [eax]
fxsave [eax]
fxsave64 [rax]
fxrstor [eax]
finit
fninit
fclex
fnclex
fnop
fchs
fldpi
fbld [eax]
fbld tword [eax]
fbstp tword [eax]
fiadd dword [eax]
fiadd word [eax]
fdisi
fndisi
feni
fneni
fsetpm
movd mm0, eax
movd xmm0, eax
movd eax, xmm0
movd xmm0, [eax]
movd xmm0, rax
movq xmm0, rax
movq rax, xmm0
movq xmm0, [rax]
movq [rax], xmm0
movq xmm0, xmm1
movq mm0, mm1
movq mm0, [eax]
movq [eax], mm0
movq mm0, rax
movdq2q mm0, xmm1
movaps xmm0, xmm1
movaps xmm0, [eax]
movaps [eax], xmm0
movss xmm0, [eax]
movss [eax], xmm1
movss xmm0, xmm1
movsd xmm0, [eax]
movsd
movsd xmm0, xmm1
cmpsd
cmpsd xmm0, xmm1, 2
cmpltsd xmm0, xmm1
cmpeqps xmm0, [eax]
cmpnless xmm0, dword [eax]
cmpordpd xmm0, xmm1
cvtsi2sd xmm0, eax
cvtsi2sd xmm0, rax
cvtsi2sd xmm0, [eax]
cvtsi2sd xmm0, dword [eax]
cvtsi2ss xmm0, qword [rax]
cvtsd2si eax, xmm0
cvttsd2si rax, [rax]
cvtpi2ps xmm0, mm0
pinsrw xmm0, eax, 1
pinsrw xmm0, [eax], 1
pinsrw xmm0, ax, 1
pinsrb xmm0, al, 1
pinsrb xmm0, eax, 1
pinsrd xmm0, eax, 1
pinsrq xmm0, rax, 1
pextrw eax, xmm0, 1
pextrw ax, xmm0, 1
pextrw [eax], xmm0, 1
pextrb eax, xmm0, 1
pextrb al, xmm0, 1
pextrb [eax], xmm0, 1
pextrd [eax], xmm0, 1
extractps eax, xmm0, 1
insertps xmm0, xmm1, 1
blendvps xmm0, xmm1
blendvps xmm0, xmm1, xmm0
pblendvb xmm1, [eax]
pblendvb xmm1, xmm2, xmm0
sha256rnds2 xmm1, xmm2
sha256rnds2 xmm1, xmm2, xmm0
maskmovq mm0, mm1
maskmovdqu xmm0, xmm1
es maskmovdqu xmm0, xmm1
pclmullqlqdq xmm0, xmm1
pclmulqdq xmm0, xmm1, 0x10
pshufd xmm0, xmm1, 0x1b
psrldq xmm0, 4
psllw xmm0, 4
psllw xmm0, xmm1
prefetchnta [eax]
prefetchw [eax]
clflush [eax]
vaddps xmm0, xmm1
vaddps xmm0, xmm1, xmm2
vaddps ymm0, ymm1, [eax]
vaddps xmm0, [eax]
vaddps zmm0, zmm1, zmm2
vaddps zmm0{k1}, zmm1, zmm2
vaddps zmm0{k1}{z}, zmm1, zmm2
vaddps zmm0 {k1} {z}, zmm1, [eax]{1to16}
vaddps zmm0, zmm1, dword [eax]{1to16}
vaddps zmm0, zmm1, zmm2, {rn-sae}
vaddps zmm0, zmm1, zmm2{rn-sae}
vaddps xmm16, xmm1, xmm2
vmovaps xmm0, xmm8
vmovaps xmm8, xmm0
vmovaps zmm0, [eax+64]
vmovaps zmm0, [eax+63]
vmovups [eax+128]{k1}, zmm0
vcmpeqps xmm0, xmm1, xmm2
vcmpeq_oqps xmm0, xmm1, xmm2
vcmpltps k1, zmm1, zmm2
vcmpps k1{k2}, zmm1, zmm2, {sae}, 3
vcmpps k1, zmm1, zmm2, 3
vcmpps k1, zmm1, zmm2{sae}, 3
vcmptrue_usss xmm0, xmm1, xmm2
vcmpgtsd k1, xmm1, xmm2
vpcmpeqb k1, zmm0, zmm1
vpcmpltb k1, zmm0, zmm1
vpcmpnleuw k1, xmm0, xmm1
vpcmpneqd k1, zmm0, [eax]{1to16}
vpcmpgtd xmm0, xmm1, xmm2
vpcomltb xmm0, xmm1, xmm2
vpcomequd xmm0, xmm1, [eax]
vpclmulhqlqdq xmm0, xmm1, xmm2
vgatherdps xmm0, [eax+xmm1*4], xmm2
vgatherdps ymm0, [eax+ymm1], ymm2
vgatherqpd xmm0, [xmm1], xmm2
vgatherdps zmm0{k1}, [eax+zmm1*4]
vpscatterdd [eax+zmm1*4]{k1}, zmm0
vpermilps xmm0, xmm1, 5
vbroadcastss xmm0, [eax]
vextractf128 xmm0, ymm1, 1
vinsertf128 ymm0, ymm1, xmm2, 1
vzeroupper
vcvtpd2ps xmm0, oword [eax]
vcvtpd2ps xmm0, yword [eax]
vcvtpd2ps xmm0, ymm1
vcvtsi2sd xmm0, xmm1, eax
vcvtsi2sd xmm0, xmm1, rax
vcvtsi2sd xmm0, eax
vcvtsi2sd xmm0, xmm1, dword [eax]
vmovd xmm0, eax
vmovq xmm0, rax
vmovq rax, xmm0
vmovq xmm0, xmm1
vmovq [eax], xmm0
vmovss xmm0, xmm1, xmm2
vmovss xmm0, xmm1
vmovss xmm0, [eax]
vmovhps xmm0, xmm1, [eax]
vmovhps [eax], xmm0
vfmadd132ps xmm0, xmm1, xmm2
vfmaddps xmm0, xmm1, xmm2, xmm3
vfmaddps xmm0, xmm1, [eax], xmm3
vfmaddps xmm0, xmm1, xmm2, [eax]
vprotb xmm0, xmm1, 5
vprotb xmm0, [eax], xmm2
vpshufb xmm0, xmm1
kmovw k1, eax
kmovq rax, k1
kandw k1, k2, k3
kshiftlw k1, k2, 3
{evex} vaddps xmm0, xmm1, xmm2
{vex3} vaddps xmm0, xmm1, xmm2
{vex2} vaddps xmm0, xmm1, xmm2
bndmk bnd0, [eax]
bndmk bnd0, [rax,rbx]
bndldx bnd0, [eax,ebx]
bndstx [rax,rbx*1], bnd0
bndmov bnd0, bnd1
bndmov bnd0, [eax]
andn eax, ebx, ecx
bextr eax, ebx, ecx
blsr eax, ebx
mulx eax, ebx, ecx
rorx eax, ebx, 5
sarx eax, [ebx], ecx
pdep rax, rbx, rcx
tzcnt eax, ebx
adcx eax, ebx
rdrand eax
rdrand rax
rdseed ax
rdfsbase eax
wrgsbase rax
xsave [eax]
xsave64 [rax]
xgetbv
xbegin $
xabort 5
xend
invept eax, [ebx]
invvpid rax, [rbx]
invpcid eax, [ebx]
vmread eax, ebx
vmread [eax], ebx
vmwrite rax, rbx
vmptrld [eax]
vmxon [eax]
rdpid eax
rdpid rax
ptwrite rax
endbr64
endbr32
tilezero tmm0
tileloadd tmm0, [rax+rbx]
tileloadd tmm0, [rax]
tilestored [rax+rbx*2], tmm3
ldtilecfg [rax]
mov ah, r8b
mov ah, spl
mov sil, al
mov spl, al
mov r15b, [r13]
mov [r12], rax
mov [r13], rax
mov [r12+r13], rax
mov [rsp], rax
mov [rsp+rax], rbx
mov [rbp+rax*1], rbx
mov [eax+ebx], rcx
mov [r8d+r9d*2], ecx
salc
rsm
into
aam
aam 5
aad
aad 16
daa
les eax, [ebx]
lds ax, [bx]
setz al
setnz byte [eax]
sete [eax]
seta bl
cmovz eax, ebx
cmovnae ax, [bx]
cmova rax, rbx
movnti [eax], ebx
movntq [eax], mm0
lfence
mfence
sfence
lddqu xmm0, [eax]
palignr mm0, mm1, 3
pabsb mm0, mm1
phaddw xmm0, [eax]
pmulhrw mm0, mm1
pfadd mm0, [eax]
femms
loadall
getsec
rdpmc
wbinvd
invd
clts
add rax, 0xffffffff
add rax, 0xffffff80
add rax, 0x1ffffff80
add eax, 0x100000005
add eax, 0xffffffff00000005
add ax, 0x10005
imul rax, rbx, 0xffffffff
push 0xffffff80
push 0x1ffffff80
mov rax, qword -1
mov [eax], dword 5
mov [eax], byte 5
mov [eax], word 5
cmp [eax], dword 500
test [eax], word 5
fmul
fdiv
fsubr
pinsrw mm0, ax, 1
vpinsrb xmm0, xmm1, al, 2
vpinsrw xmm0, xmm1, ax, 2
lsl eax, bx
lar rax, bx
lar rax, ebx
lar ax, ebx
call [rax]
jmp [rax]
jmp far [rax]
jmp qword far [rax]
vcvtsi2sd xmm0, xmm1, [rax]
vcvtsi2ss xmm0, xmm1, [rax]
cvtsi2ss xmm0, [rax]
vcvtusi2sd xmm0, xmm1, [rax]
cvttss2si eax, [ebx]
vcvtpd2ps xmm0, [eax]
vcvtpd2dq xmm0, [eax]
vcvtqq2ps xmm0, [eax]
vfpclassps k1, [eax], 5
vfpclasspd k1, yword [eax], 5
ptwrite [eax]
nop [eax]
crc32 eax, [ebx]
fild [eax]
fiadd [eax]
fadd [eax]
not [eax]
neg [eax]
mul [eax]
rcl [eax], 1
mov [eax], cs
pinsrq xmm0, [rax], 1
out 0x60, eax
bound ax, [bx]
lgdt [rel 5]
mov eax, [ebx+ecx*2-4]
mov eax, [ebx-4+ecx]
mov eax, [es:ebx]
mov eax, [cs:0x10]
add al, [bx+si]
lea rsp, [rsp-8]
and rsp, -16
and esp, 0xfffffff0
cmp al, 'a'
cmp ax, 'ab'
cmp eax, 'abcd'
mov dword [ebx], 'abcd'
mov al, 'x'
sub esp, 128
sub esp, -128
add rsp, 128
sub rsp, 0x1000
or byte [ebx+5], 0x80
test byte [ebx+5], 0x80
test al, 0x80
movzx ecx, word [ebp-2]
movsx ecx, byte [ebp+ecx*2]
movsx rcx, dword [rbp+8]
cmovne rax, [rsp+8]
setne [rsp+8]
xor eax, eax
xor r8d, r8d
xor r8, r8
push qword [rsp]
push word [esp]
pop qword [rsp+8]
pop word [bx]
call near [ebx]
jmp near [ebx]
jmp [cs:bx]
call rax
jmp r15
call ax
ret 0
retf 0
in al, 0x92
out 0x92, al
mov cr4, eax
mov rax, cr8
mov dr0, rax
ltr ax
lldt [ebx]
str [ebx]
cmpxchg [rdi], r9
xadd [rdi], al
lock cmpxchg [rdi], ecx
lock btc dword [rdi], 3
rep lodsw
repne movsb
stosq
lodsq
movsq
cmpsq
scasq
cqo
cdqe
cwde
cbw
cwd
cdq
swapgs
invlpg [rdi]
wrfsbase rax
rdgsbase ecx
vmovdqu ymm0, [rsi]
vmovdqu [rdi], ymm0
vmovdqu8 zmm0, [rsi]
vpxor xmm0, xmm0, xmm0
vpxord zmm0, zmm0, zmm0
vpternlogd zmm0, zmm1, zmm2, 0xff
vpaddd ymm1{k1}{z}, ymm2, [rax]{1to8}
vpermd zmm1, zmm2, [rax+64]
vpermq ymm0, ymm1, 0x4e
vbroadcastss zmm1, xmm2
vpbroadcastd zmm1, eax
vpbroadcastb xmm1, [rax]
vpcmpud k1, zmm1, zmm2, 5
vcompressps [rax]{k1}, zmm1
vpmovqb [rax], xmm1
vrndscaleps zmm1, zmm2, {sae}, 4
vsqrtss xmm1, xmm2, xmm3, {rz-sae}
vfmadd231pd zmm1, zmm2, zmm3, {ru-sae}
vcvttps2dq zmm1, zmm2, {sae}
vgetmantps zmm1, zmm2, {sae}, 5
vscatterqps [rax+zmm1*8]{k2}, ymm3
vgatherdpd zmm1{k1}, [rax+ymm2*8+16]
kortestq k1, k2
kunpckbw k1, k2, k3
vaesenc zmm1, zmm2, zmm3
gf2p8mulb xmm1, xmm2
sha1rnds4 xmm1, xmm2, 3
aesenc xmm1, [rax]
pcmpistri xmm1, xmm2, 4
pcmpestrm xmm1, [rax], 4
roundss xmm1, [rax], 3
dpps xmm1, xmm2, 0xff
movmskps eax, xmm1
movmskpd rax, xmm1
pmovmskb eax, xmm1
pmovmskb eax, mm1
cvtss2si rax, [rax]
cvtsi2ss xmm1, dword [rax]
ucomisd xmm1, [rax]
unpcklps xmm1, [rax]
shufps xmm1, xmm2, 0x1b
movhlps xmm1, xmm2
movlhps xmm1, xmm2
movhps xmm1, [rax]
movhps [rax], xmm1
movlpd xmm1, qword [rax]
movntps [rax], xmm1
ldmxcsr [rax]
stmxcsr dword [rax]
xsavec [rax]
xrstors [rax]
clwb [rax]
mov word [es:0], 5
mov byte [gs:rax], 1
mov [fs:rax+rbx*2], rcx
`
  .trim()
  .split("\n");

/** Lines that NASM assembles and we refuse or encode differently, as \`bits text\`, and why. */
export const SHORTHAND_DIFFERENCES: readonly { readonly match: RegExp; readonly reason: string }[] = [
  {
    match: /^16 o32 call \$$/,
    reason: "NASM writes a 16-bit displacement behind an operand-size prefix that asks for 32 bits",
  },
  {
    match: /^\d\d ud(1|2b)$/,
    reason: "UD1 has a ModRM byte; NASM leaves it out and so swallows the next instruction's first byte",
  },
  { match: /^(16|32) .*(xmm16|\brax\b)/, reason: "NASM encodes registers that 16- and 32-bit code does not have" },
  { match: /^64 a32 mov eax, \[0x10\]$/, reason: "NASM takes the accumulator form with a 32-bit offset" },
  { match: /^64 o64 mov eax, ebx$/, reason: "o64 contradicts the registers: we refuse it" },
  { match: /^64 (salc|loadall)$/, reason: "neither exists in 64-bit code" },
  { match: /^64 ptwrite rax$/, reason: "NASM leaves the F3 prefix out" },
];
