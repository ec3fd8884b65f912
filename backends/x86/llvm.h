/* SPDX-License-Identifier: MIT
 *
 * LLVM's C API, opened at run time.
 *
 * quern builds against LLVM's headers and links nothing of it: the library is found by name at the
 * first compilation, every function used is looked up once, and a program that only runs cached
 * code never pays for it. Calls read l->BuildAdd(..) for LLVMBuildAdd(..). */
#ifndef QN_BACKENDS_X86_LLVM_H
#define QN_BACKENDS_X86_LLVM_H

#include <llvm-c/Core.h>
#include <llvm-c/ErrorHandling.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <setjmp.h>

#define QN_LLVM_FUNCTIONS(X)           \
    X(AddAttributeAtIndex)             \
    X(AddFunction)                     \
    X(AddIncoming)                     \
    X(AppendBasicBlockInContext)       \
    X(ArrayType2)                      \
    X(BuildAShr)                       \
    X(BuildAdd)                        \
    X(BuildAlloca)                     \
    X(BuildAnd)                        \
    X(BuildAtomicCmpXchg)              \
    X(BuildAtomicRMW)                  \
    X(BuildBitCast)                    \
    X(BuildBr)                         \
    X(BuildCall2)                      \
    X(BuildCondBr)                     \
    X(BuildExtractElement)             \
    X(BuildExtractValue)               \
    X(BuildFAdd)                       \
    X(BuildFCmp)                       \
    X(BuildFDiv)                       \
    X(BuildFMul)                       \
    X(BuildFNeg)                       \
    X(BuildFPExt)                      \
    X(BuildFPToSI)                     \
    X(BuildFPTrunc)                    \
    X(BuildFSub)                       \
    X(BuildGEP2)                       \
    X(BuildICmp)                       \
    X(BuildInsertElement)              \
    X(BuildLShr)                       \
    X(BuildLoad2)                      \
    X(BuildMul)                        \
    X(BuildNSWAdd)                     \
    X(BuildOr)                         \
    X(BuildPhi)                        \
    X(BuildRet)                        \
    X(BuildRetVoid)                    \
    X(BuildSDiv)                       \
    X(BuildSExt)                       \
    X(BuildSIToFP)                     \
    X(BuildSRem)                       \
    X(BuildSelect)                     \
    X(BuildShl)                        \
    X(BuildShuffleVector)              \
    X(BuildStore)                      \
    X(BuildSub)                        \
    X(BuildSwitch)                     \
    X(AddCase)                         \
    X(BuildTrunc)                      \
    X(BuildUDiv)                       \
    X(BuildURem)                       \
    X(BuildXor)                        \
    X(BuildZExt)                       \
    X(ConstInt)                        \
    X(ConstIntGetSExtValue)            \
    X(ConstNull)                       \
    X(ConstReal)                       \
    X(ConstVector)                     \
    X(ContextCreate)                   \
    X(ContextDispose)                  \
    X(ContextSetDiagnosticHandler)     \
    X(CreateBuilderInContext)          \
    X(CreateStringAttribute)           \
    X(CreateEnumAttribute)             \
    X(CreateTargetDataLayout)          \
    X(CreateTargetMachine)             \
    X(DisposeBuilder)                  \
    X(DisposeMemoryBuffer)             \
    X(DisposeMessage)                  \
    X(DisposeModule)                   \
    X(DisposeTargetData)               \
    X(DisposeTargetMachine)            \
    X(DoubleTypeInContext)             \
    X(FloatTypeInContext)              \
    X(FunctionType)                    \
    X(GetAlignment)                    \
    X(GetBasicBlockParent)             \
    X(GetBasicBlockTerminator)         \
    X(GetBufferSize)                   \
    X(GetBufferStart)                  \
    X(GetEnumAttributeKindForName)     \
    X(GetInsertBlock)                  \
    X(GetInstructionParent)            \
    X(GetIntTypeWidth)                 \
    X(GetIntrinsicDeclaration)         \
    X(GetParam)                        \
    X(GetTargetFromTriple)             \
    X(GetTypeKind)                     \
    X(GetElementType)                  \
    X(GetUndef)                        \
    X(GetVectorSize)                   \
    X(HalfTypeInContext)               \
    X(InitializeX86AsmPrinter)         \
    X(InitializeX86Target)             \
    X(InitializeX86TargetInfo)         \
    X(InitializeX86TargetMC)           \
    X(InstallFatalErrorHandler)        \
    X(IntTypeInContext)                \
    X(IntrinsicGetType)                \
    X(IsAConstant)                     \
    X(IsAConstantInt)                  \
    X(IsAInstruction)                  \
    X(LookupIntrinsicID)               \
    X(ModuleCreateWithNameInContext)   \
    X(PointerTypeInContext)            \
    X(PositionBuilderAtEnd)            \
    X(PositionBuilderBefore)           \
    X(PrintModuleToString)             \
    X(SetAlignment)                    \
    X(SetModuleDataLayout)             \
    X(SetTarget)                       \
    X(StructTypeInContext)             \
    X(TargetMachineEmitToMemoryBuffer) \
    X(TypeOf)                          \
    X(VectorType)                      \
    X(VoidTypeInContext)

typedef struct qn_llvm {
#define X(name) __typeof__(LLVM##name) *name;
    QN_LLVM_FUNCTIONS(X)
#undef X
} qn_llvm;

/* The table, or NULL: LLVM is absent or too old, and *why says so. Thread-safe. */
const qn_llvm *qn_llvm_open(const char **why);

/* While LLVM works, its fatal errors on this thread jump here (NULL: they abort the process, as
 * LLVM does). Returns the former place. */
jmp_buf *qn_llvm_on_fatal(jmp_buf *where);

#endif
